"""The certificates of a cluster that lives for one test run: an authority, a server, one admin."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey


def write(folder: Path, names: Sequence[str]) -> None:
    """Write ca, server and admin (`.crt` and `.key`) and accounts.key, which signs tokens.

    Args:
        names: what the server is called: DNS names and addresses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority = ec.generate_private_key(ec.SECP256R1())
    subject = _name("proa tests")
    constraint = x509.BasicConstraints(ca=True, path_length=0)
    root = _builder(subject, subject, authority).add_extension(constraint, critical=True)
    _save(folder / "ca", authority, root.sign(authority, hashes.SHA256()))
    for name, who, usage in (
        ("server", _name("kube-apiserver"), ExtendedKeyUsageOID.SERVER_AUTH),
        ("admin", _name("admin", "system:masters"), ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(who, subject, key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if name == "server":
            alternative = x509.SubjectAlternativeName([_general(item) for item in names])
            builder = builder.add_extension(alternative, critical=False)
        _save(folder / name, key, builder.sign(authority, hashes.SHA256()))
    _save(folder / "accounts", ec.generate_private_key(ec.SECP256R1()), None)


def _name(common: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def _general(item: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(item))
    except ValueError:
        return x509.DNSName(item)


def _save(stem: Path, key: Key, certificate: x509.Certificate | None) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    path = stem.with_suffix(".key")
    path.touch(mode=0o600)
    path.write_bytes(private)
    if certificate is not None:
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        stem.with_suffix(".crt").write_bytes(pem)
