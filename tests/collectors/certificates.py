"""An authority and certificates of its own, made by openssl for one test session."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in PEM form. `encrypted_key` is the client's key behind a password."""

    authority: Path
    server: Path  # for 127.0.0.1, with its key
    client: Path
    client_key: Path
    encrypted_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Certificates that are good for a day."""
    key, authority = folder / "authority.key", folder / "authority.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl(
        "req", "-x509", *curve, "-days", "1", "-subj", "/CN=a", *usage, "-keyout", str(key), "-out", str(authority)
    )
    made = {}
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        own_key, request, cert = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.pem"
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"{extension}\n")
        _openssl("req", "-new", *curve, "-subj", f"/CN={name}", "-keyout", str(own_key), "-out", str(request))
        signed = ("-CA", str(authority), "-CAkey", str(key), "-set_serial", "7", "-extfile", str(extensions))
        _openssl("x509", "-req", "-in", str(request), *signed, "-days", "1", "-out", str(cert))
        made[name] = (cert, own_key)
    server = folder / "server-with-key.pem"
    server.write_text(made["server"][0].read_text() + made["server"][1].read_text())
    encrypted = folder / "encrypted.key"
    _openssl("ec", "-in", str(made["client"][1]), "-aes256", "-passout", "pass:secret", "-out", str(encrypted))
    client, client_key = made["client"]
    return Certificates(
        authority=authority, server=server, client=client, client_key=client_key, encrypted_key=encrypted
    )


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
