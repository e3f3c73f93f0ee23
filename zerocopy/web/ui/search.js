/** Which symbols match what was typed, best first. Pure. */

const BEGIN = 100;
const BOUNDARY = 30;
const RUN = 15;
const LETTER = 1;

const isBoundary = (text, index) => index === 0 || !/[a-z0-9]/.test(text[index - 1]);

/**
 * How well `query` fits `text`, both lower-case: null where its letters do not occur in order.
 * Letters at the begin, after a separator and side by side count most; shorter texts win ties.
 */
export function fit(query, text) {
  const whole = text.indexOf(query);
  if (whole >= 0) {
    const score = BEGIN + RUN * query.length + (isBoundary(text, whole) ? BOUNDARY : 0);
    return score + (whole === 0 ? BEGIN : 0) - text.length / 100;
  }
  let [score, at, run] = [0, 0, false];
  for (const letter of query) {
    const found = text.indexOf(letter, at);
    if (found < 0) return null;
    run = found === at && at > 0;
    score += LETTER + (run ? RUN : 0) + (isBoundary(text, found) ? BOUNDARY : 0) - (found - at) / 10;
    at = found + 1;
  }
  return score - text.length / 100;
}

/**
 * The entries ({ symbol, exchange }) that fit every word of the query, best first; all of them in
 * their own order where it is empty. A word may name the exchange: "btc krak".
 */
export function search(query, entries) {
  const words = query.toLowerCase().replace(/[/_-]+/g, (run) => run[0]).split(/\s+/).filter(Boolean);
  if (!words.length) return entries;
  const found = [];
  for (const entry of entries) {
    const symbol = entry.symbol.toLowerCase();
    const plain = symbol.replace(/[^a-z0-9]/g, "");
    let total = 0;
    for (const word of words) {
      const bare = word.replace(/[^a-z0-9^]/g, "");
      const scores = [fit(word, symbol), bare ? fit(bare, plain) : null];
      const exchange = fit(word, entry.exchange.toLowerCase());
      if (words.length > 1 || exchange > BEGIN) scores.push(exchange === null ? null : exchange / 4);
      const best = Math.max(...scores.map((score) => score ?? -Infinity));
      total += best;
    }
    if (total > -Infinity) found.push([total, entry]);
  }
  return found.sort(([a], [b]) => b - a).map(([, entry]) => entry);
}
