"""`zerocopy certs`: a certificate for development, and how to trust it.

Owns the lines to copy. `development/certificates.py` makes the files.
"""

from __future__ import annotations

from typing import Annotated

import typer


def certs(
    directory: Annotated[
        str, typer.Option("--directory", metavar="DIR", help="Where the files go.")
    ] = "certs",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="A further host name or address; repeatable."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a certificate that exists; keep its CA.")
    ] = False,
    new_ca: Annotated[
        bool, typer.Option("--new-ca", help="With --force: replace the CA too.")
    ] = False,
) -> None:
    """Make a certificate for localhost, and a CA to trust it by, for development."""
    import shlex

    from zerocopy.commands.development.certificates import make_certificates

    made = make_certificates(directory, names or (), force=force, new_ca=new_ca)
    ca = shlex.quote(made.ca_cert)
    installed = "/usr/local/share/ca-certificates/zerocopy-development-ca.crt"
    for line in (
        *made,
        "",
        "To trust the CA:",
        f"  curl     curl --cacert {ca} https://localhost:8443/api/symbols",
        f"  Debian   sudo cp {ca} {installed} && sudo update-ca-certificates",
        f"  browser  import {ca} in the settings, under certificates, as an authority",
    ):
        typer.echo(line)
