"""docs/client_javascript.py: the reference of the JavaScript client is that of its types."""

from __future__ import annotations

import re

from docs.client_javascript import BLOCK, SOURCE, main, reference
from tests.web.node import MODULE

EXPORTS = re.compile(r"^export class (\w+)", re.MULTILINE)
METHODS = re.compile(r"^  (?:async )?(?:get )?(\w+)\(.*\) \{$", re.MULTILINE)


def test_reference_is_that_of_the_types() -> None:
    """`python -m docs.client_javascript` was run after the last change of a comment."""
    assert main(["--check"]) == 0


def test_module_and_types_export_the_same_and_the_page_has_all() -> None:
    """Every class, and every method that is not private."""
    module, types, page = (path.read_text("utf-8") for path in (MODULE, SOURCE, BLOCK.page))
    assert sorted(EXPORTS.findall(module)) == sorted(EXPORTS.findall(types))
    for body in re.split(r"^export class ", module, flags=re.MULTILINE)[1:]:
        head = body.partition("\n")[0]
        name = head.split()[0]
        if "extends" in head:
            assert f"- `{name}`" in page or f"### {name}\n" in page
            continue
        for method in METHODS.findall(body.partition("\n}\n")[0]):
            if method != "constructor":  # a client makes all others
                assert f"#### {method}\n" in page or f"- `{method}:" in page, method
            elif name == "Client":
                assert "#### new Client\n" in page


def test_comments_keep_their_examples_and_lists() -> None:
    """Text, an example with its indents, parameters and errors of one method."""
    source = """\
/** Asks. */
export class Asker {
  /**
   * Asks {@link Asker.twice}.
   *
   * @param what - The thing,
   * in full.
   * @throws {@link Wrong} if it is none.
   * @example
   * for (;;) {
   *   ask("it");
   * }
   */
  ask(
    what: string,
  ): Promise<void>;
  private hidden(): void;
}
/** It is wrong. */
export class Wrong extends ZerocopyError {}
"""
    assert (
        reference(source)
        == """\
### Asker

Asks.

#### ask

```ts
ask(
  what: string,
): Promise<void>;
```

Asks `twice`.

- `what`: The thing, in full.

Throws `Wrong` if it is none.

```js
for (;;) {
  ask("it");
}
```

### Errors below ZerocopyError

- `Wrong`: It is wrong."""
    )
