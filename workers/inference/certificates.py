"""Certificates for a host's engines: an authority of its own for each start of the worker, and short leaves of it.

No key is written anywhere: both live in the worker's memory. The authority's certificate goes into the host's row, and
the API trusts it for that host's address alone.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: A leaf is renewed daily, so a machine whose clock is some days off is still believed.
LEAF_VALID = timedelta(days=7)
_AUTHORITY_VALID = timedelta(days=3650)
#: Clocks of two machines differ.
_BEFORE = timedelta(days=1)


class Authority:
    """Signs certificates for one address, a name or an IP."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Eigenwerk host")])
        usage = _usage(signs_certificates=True)
        ends = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(self._name, self._name, self._key.public_key(), _AUTHORITY_VALID)
        signed = builder.add_extension(ends, critical=True).add_extension(usage, critical=True)
        self._certificate = signed.sign(self._key, hashes.SHA256())
        #: In PEM, for who is to trust it.
        self.certificate = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def load_leaf(self, context: ssl.SSLContext) -> None:
        """Gives the context a new key and certificate; connections that are open keep theirs."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Eigenwerk engines")])
        builder = _builder(name, self._name, key.public_key(), LEAF_VALID)
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectAlternativeName([_general_name(self._address)]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _load(context, secret + certificate)


def _load(context: ssl.SSLContext, content: bytes) -> None:
    """Python's ssl takes files only: one in memory, which nobody else can open."""
    with os.fdopen(os.memfd_create("leaf"), "wb") as stream:
        stream.write(content)
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{stream.fileno()}")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - _BEFORE, now + valid)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)
