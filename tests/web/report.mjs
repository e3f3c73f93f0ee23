/** What a client got, as JSON: the same in Node and on a page. */

async function digest(values) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", values));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A frame with the hashes of its columns; any other answer as it is. */
export async function reported(answer) {
  if (answer.get === undefined) return answer;
  const columns = [];
  for (const [name, values] of answer) {
    columns.push([name, answer.dtype(name), await digest(values.bytes ?? values)]);
  }
  const { length, skipped, intervalS, cursor } = answer;
  return { columns, length, skipped, intervalS, cursor };
}

/** Runs calls such as `["data", "X", "time", { type: "MD" }]`, all at once; errors by their name. */
export function answers(client, calls) {
  return Promise.all(
    calls.map(async ([method, ...parameters]) => {
      try {
        return await reported(await client[method](...parameters));
      } catch ({ name, status, detail }) {
        return { name, status, detail };
      }
    }),
  );
}

/** The records of a live stream as rows, until there are `count`, and what its connection did. */
export async function followed(client, symbol, columns, options, count, onRow = () => {}) {
  const [rows, states] = [[], []];
  const onState = ({ state }) => states.push(state);
  for await (const frame of client.live(symbol, columns, { ...options, onState })) {
    for (let index = 0; index < frame.length; index++) {
      rows.push(Object.values(frame.row(index)).map(Number));
      onRow(rows.at(-1));
    }
    if (rows.length >= count) return { rows, states, cursor: frame.cursor };
  }
  throw new Error("a stream without end has ended");
}
