"""What goes wrong between two sides that do not trust each other, as a person can mend it."""

import re

from soundranger_node.errors import BrokerError

# OpenSSL's words, and what they mean to the owner of a node. The first that is found counts.
MEANINGS = (
    (
        "certificate is not yet valid",
        "has a certificate that is not valid yet",
        "wait until this computer's clock is set, or set it",
    ),
    (
        "certificate has expired",
        "has a certificate that has expired",
        "renew the broker's certificate; if it is new, set this computer's clock",
    ),
    (
        "mismatch",
        "has a certificate for another name",
        "let [mqtt] host be a name or an address that the certificate has",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "has a certificate of an authority that we do not trust",
        "let [mqtt] ca name the file of the authority that signed it",
    ),
    (
        "ALERT_CERTIFICATE_REQUIRED",
        "asks for a certificate of this node",
        "set [mqtt] cert and key to one that its authority has signed",
    ),
    # What TLS 1.2 says instead.
    (
        "ALERT_HANDSHAKE_FAILURE",
        "refuses the handshake, mostly for want of a certificate of this node",
        "set [mqtt] cert and key to one that its authority has signed",
    ),
    (
        "ALERT_CERTIFICATE_EXPIRED",
        "says that the certificate of this node has expired",
        "renew the certificate that [mqtt] cert names",
    ),
    (
        "ALERT_UNKNOWN_CA",
        "does not trust the authority that signed the certificate of this node",
        "let [mqtt] cert name one that the broker's authority has signed",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "does not speak TLS on this port",
        "check [mqtt] port (8883 is usual for TLS), or set tls = false",
    ),
)

# A broker that refuses our certificate may close so fast that its reason never arrives.
CLOSING = ("EOF occurred", "reset by peer", "Broken pipe")
CLOSED = (
    "closed the connection instead of answering",
    "if it asks for a certificate of this node, set [mqtt] cert and key to one that its authority has signed",
)


def tls_problem(address: str, error: str) -> BrokerError:
    """Return the sentence for an error of TLS with the broker at `address`; `error` is the text that Python has."""
    detail = re.sub(r"\s*\(_ssl\.c:\d+\)", "", error)
    for words, problem, remedy in (*MEANINGS, *((words, *CLOSED) for words in CLOSING)):
        if words in error:
            return BrokerError(address, f"{problem} ({_last_words(detail)})", remedy)
    return BrokerError(address, f"cannot be spoken to over TLS ({detail})", "check [mqtt] tls, ca, cert and key")


def _last_words(detail: str) -> str:
    return detail.rsplit("] ", 1)[-1]
