"""TLS and logins, against a real mosquitto: what works, and the one sentence for what does not."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from soundranger_node.link import Link, LinkSettings
from soundranger_node.messages import ClockStatus, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.tls import tls_problem

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

PATIENCE_S = 15.0
STATUS_NOW = NodeStatus(
    node="roof",
    online=True,
    time_ns=1_700_000_000_000_000_000,
    version="1",
    lat=48.1,
    lon=11.5,
    alt_m=520.0,
    position_sigma_m=5.0,
    clock=ClockStatus(tier="free", bound_s=0.05),
)
# After a handshake that failed, paho leaves its socket to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"),
]


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._openssl = shutil.which("openssl") or ""
        if not self._openssl:
            pytest.skip("openssl is not installed")
        folder.mkdir()
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._run("req", "-x509", *self._new_key("ca"), "-days", "2", "-subj", "/CN=authority", "-out", str(self.ca))

    def issue(self, name: str, address: str = "127.0.0.1", days: int = 2) -> tuple[str, str]:
        """Return the paths of a certificate and its key; with `days` 0 it has expired when it is made."""
        request, certificate, extensions = (self._folder / f"{name}.{end}" for end in ("csr", "pem", "ext"))
        extensions.write_text(f"subjectAltName=IP:{address}\n")
        self._run("req", *self._new_key(name), "-subj", f"/CN={name}", "-out", str(request))
        command = ["x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self._folder / "ca.key")]
        command += ["-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(certificate)]
        self._run(*command)
        return str(certificate), str(self._folder / f"{name}.key")

    def _new_key(self, name: str) -> list[str]:
        return ["-newkey", "rsa:2048", "-nodes", "-keyout", str(self._folder / f"{name}.key")]

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True)


@dataclass
class Certificates:
    """An authority that both sides trust, and one that nobody does."""

    ours: Authority
    strangers: Authority
    broker: tuple[str, str]
    node: tuple[str, str]
    expired: tuple[str, str]
    elsewhere: tuple[str, str]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ours, strangers = Authority(folder / "ours"), Authority(folder / "strangers")
    expired = ours.issue("expired", days=0)
    # Its last second has to be over.
    time.sleep(1.1)
    elsewhere = ours.issue("elsewhere", address="192.0.2.1")
    return Certificates(ours, strangers, ours.issue("broker"), ours.issue("node"), expired, elsewhere)


Serve = Callable[..., None]


@pytest.fixture
def serve(mosquitto: "Mosquitto", certificates: Certificates) -> Serve:
    """Give a function that starts mosquitto anew with TLS and more settings."""

    def start(*more: str, identity: tuple[str, str] = certificates.broker) -> None:
        mosquitto.stop()
        mosquitto.configure(f"certfile {identity[0]}", f"keyfile {identity[1]}", *more)
        mosquitto.start()

    return start


Connect = Callable[..., Link]


@pytest.fixture
def connect(mosquitto: "Mosquitto", tmp_path: Path, certificates: Certificates) -> Iterator[Connect]:
    """Give a function that starts a link with TLS and more settings; a detection waits to be delivered."""
    links: list[Link] = []
    outbox = Outbox(tmp_path / "outbox.sqlite")
    outbox.put("n-1", 1, b"{}")

    def start(**more: Any) -> Link:
        settings: dict[str, Any] = {"tls": True, "ca": str(certificates.ours.ca), "delivery": "broker"} | more
        links.append(Link(LinkSettings(mosquitto.host, mosquitto.port, **settings), outbox, STATUS_NOW))
        links[-1].start()
        return links[-1]

    yield start
    for link in links:
        link.close()
    outbox.close()


def wait_until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def problem_of(link: Link) -> str:
    wait_until(lambda: link.problems)
    (problem,) = link.problems
    return problem


def test_with_an_authority_that_it_trusts_a_node_delivers(serve: Serve, connect: Connect) -> None:
    serve("allow_anonymous true")
    link = connect()
    wait_until(lambda: link.outbox.depth == 0)
    assert link.address.startswith("mqtts://")
    assert link.problems == []


def test_with_a_certificate_of_its_own_a_node_delivers(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    serve("allow_anonymous true", f"cafile {certificates.ours.ca}", "require_certificate true")
    cert, key = certificates.node
    link = connect(cert=cert, key=key)
    wait_until(lambda: link.outbox.depth == 0)


def test_with_user_and_password_over_tls_a_node_delivers(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    serve(f"password_file {passwords(tmp_path)}")
    link = connect(user="roof", password="right")
    wait_until(lambda: link.outbox.depth == 0)


def test_a_wrong_password_is_said(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    serve(f"password_file {passwords(tmp_path)}")
    assert "refused the connection (Not authorized); check [mqtt] user and password" in problem_of(
        connect(user="roof", password="wrong")
    )


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_a_broker_that_asks_for_a_certificate_is_said(
    serve: Serve, connect: Connect, certificates: Certificates, version: str
) -> None:
    settings = ("allow_anonymous true", f"cafile {certificates.ours.ca}", "require_certificate true")
    serve(*settings, f"tls_version {version}")
    problem = problem_of(connect())
    assert "certificate of this node" in problem
    assert "set [mqtt] cert and key to one that its authority has signed" in problem


def test_a_certificate_of_an_authority_that_the_broker_does_not_know_is_said(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    serve("allow_anonymous true", f"cafile {certificates.ours.ca}", "require_certificate true")
    cert, key = certificates.strangers.issue("node")
    problem = problem_of(connect(cert=cert, key=key))
    # Its reason may be lost with the connection: mosquitto closes at once.
    assert (
        "the authority that signed the certificate of this node" in problem
        or "certificate of this node, set" in problem
    )
    assert "[mqtt] cert" in problem


def test_a_certificate_of_the_node_that_has_expired_is_said(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    serve("allow_anonymous true", f"cafile {certificates.ours.ca}", "require_certificate true")
    cert, key = certificates.expired
    problem = problem_of(connect(cert=cert, key=key))
    told = "says that the certificate of this node has expired"
    assert told in problem or "if it asks for a certificate of this node" in problem
    assert "[mqtt] cert" in problem


def test_a_broker_of_another_authority_is_not_trusted(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    serve("allow_anonymous true")
    problem = problem_of(connect(ca=str(certificates.strangers.ca)))
    assert "has a certificate of an authority that we do not trust" in problem
    assert "; let [mqtt] ca name the file of the authority that signed it" in problem


def test_a_broker_whose_certificate_has_expired_is_not_trusted(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    serve("allow_anonymous true", identity=certificates.expired)
    problem = problem_of(connect())
    assert "has a certificate that has expired" in problem
    assert "; renew the broker's certificate; if it is new, set this computer's clock" in problem


def test_a_broker_with_a_certificate_for_another_address_is_not_trusted(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    serve("allow_anonymous true", identity=certificates.elsewhere)
    problem = problem_of(connect())
    assert "has a certificate for another name" in problem
    assert "; let [mqtt] host be a name or an address that the certificate has" in problem


def test_tls_on_a_port_without_it_and_the_other_way_round_are_said(
    mosquitto: "Mosquitto", serve: Serve, connect: Connect
) -> None:
    assert mosquitto.host
    assert "cannot be reached" in problem_of(connect())
    serve("allow_anonymous true")
    problem = problem_of(connect(tls=False, ca=None))
    assert "cannot be reached (the connection was closed)" in problem
    assert "check [mqtt] host, port and tls" in problem


def passwords(folder: Path) -> Path:
    """Return a password file in which user roof has the password "right"."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    path = folder / "passwords"
    subprocess.run([program, "-b", "-c", str(path), "roof", "right"], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            "failed to receive on socket: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert (_ssl.c:2580)",
            (
                "b: asks for a certificate of this node (tlsv13 alert); "
                "set [mqtt] cert and key to one that its authority has signed"
            ),
        ),
        (
            "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:2580)",
            (
                "b: says that the certificate of this node has expired (sslv3 alert certificate expired); "
                "renew the certificate that [mqtt] cert names"
            ),
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid (_ssl.c:997)",
            (
                "b: has a certificate that is not valid yet (certificate verify failed: certificate is not yet valid); "
                "wait until this computer's clock is set, or set it"
            ),
        ),
        (
            "[SSL: SOMETHING_NEW] something new (_ssl.c:1)",
            "b: cannot be spoken to over TLS ([SSL: SOMETHING_NEW] something new); check [mqtt] tls, ca, cert and key",
        ),
    ],
)
def test_what_openssl_says_becomes_a_sentence(error: str, sentence: str) -> None:
    assert str(tls_problem("b", error)) == sentence
