"""The MQTT broker: whether it is reached, is who it should be, and lets this node in."""

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from soundranger_node.check.result import Result, fails, of_error, ok, warning
from soundranger_node.errors import InputError
from soundranger_node.link import LinkSettings, tls_context
from soundranger_node.session import CONNECT_TIMEOUT_S

# How long a broker may take over one step of the conversation.
ANSWER_S = 5.0
POLL_S = 0.2
# Time enough to renew a certificate before it ends.
RENEW_DAYS = 30.0
SECONDS_PER_DAY = 86_400.0

# What OpenSSL calls the reasons for which it does not trust a certificate (X509_V_ERR_*).
NOT_YET_VALID = 9
EXPIRED = 10
WRONG_NAME = (62, 64)


@dataclass
class Conversation:
    """What a broker answered: to the login, to the wish to hear acks, and to a trial; None where it said nothing."""

    version: MQTTProtocolVersion
    login: ReasonCode | None = None
    acks: ReasonCode | None = None
    trial: ReasonCode | None = None
    trouble: str = ""


def judge_unreachable(host: str, port: int, error: OSError) -> Result:
    """Judge why no connection was made."""
    if isinstance(error, socket.gaierror):
        remedy = "correct [mqtt] host, or give the address as numbers"
        return fails("network", f'no machine is called "{host}" here', remedy, f"getent hosts {host}")
    if isinstance(error, ConnectionRefusedError):
        remedy = f"start the broker there, and let it listen for others and on port {port}; else correct [mqtt] port"
        found = f"{host} is there, but nothing listens on port {port}"
        return fails("network", found, remedy, "sudo systemctl status mosquitto")
    found = f"{host}, port {port}, cannot be reached ({error.strerror or error})"
    return fails("network", found, "see whether that machine is on and no firewall is between", f"ping -c 3 {host}")


def judge_handshake(host: str, port: int, error: OSError) -> Result:
    """Judge why the broker and this node did not agree on TLS."""
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    if code == NOT_YET_VALID:
        found = "the broker's certificate is not valid yet, by this computer's clock"
        return fails("TLS", found, "see whether the clock is right", "timedatectl")
    if code == EXPIRED:
        found = "the broker's certificate has expired, by this computer's clock"
        return fails("TLS", found, "renew it on the broker, if the clock is right", "timedatectl")
    if code in WRONG_NAME:
        found = f"the broker's certificate is not for the name {host}"
        return fails("TLS", found, "set [mqtt] host to a name in it, or make one for this name", _show(host, port))
    if code is not None:
        found = f"the broker's certificate is not vouched for by an authority known here ({_reason(error)})"
        return fails("TLS", found, "set [mqtt] ca to the authority's certificate, a PEM file", _show(host, port))
    if isinstance(error, ssl.SSLError) and error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return fails(
            "TLS", "the broker speaks no TLS on this port", "use its port for TLS, usually port = 8883 in [mqtt]"
        )
    found = f"the broker ended the handshake ({_reason(error)})"
    return fails("TLS", found, "set port to the broker's port for TLS, and cert and key if it wants those of clients")


def judge_certificate(version: str, days_left: float) -> Result:
    """Judge a certificate that is trusted, `days_left` before its end."""
    if days_left < RENEW_DAYS:
        found = f"the broker's certificate ends in {days_left:.0f} days"
        return warning("TLS", found, "renew it on the broker; nodes cannot connect afterwards")
    return ok("TLS", f"{version}, the certificate is good for {days_left:,.0f} days")


def judge_conversation(said: Conversation, user: str | None, topic: str) -> list[Result]:
    """Judge the login, and what the broker lets this node do at and below its own `topic`."""
    if said.login is None:
        remedy = (
            "see whether an MQTT broker listens on this port, and whether it wants TLS (tls = true in [mqtt]) or "
            "a certificate of this node (cert and key)"
        )
        return [fails("login", f"the broker does not answer ({said.trouble or 'no word in time'})", remedy)]
    if said.login.is_failure:
        who = f"user {user}" if user else "a node without user and password"
        remedy = "set [mqtt] user and password to those that the broker knows; there, a user is made by"
        command = f"sudo mosquitto_passwd /etc/mosquitto/passwd {user or 'NODE'}; sudo systemctl reload mosquitto"
        return [fails("login", f"the broker refuses {who} ({said.login})", remedy, command)]
    version = "5" if said.version is MQTTProtocolVersion.MQTTv5 else "3.1.1"
    return [ok("login", f"as {user or 'anybody'}, MQTT {version}"), _judge_topics(said, version, topic)]


def _judge_topics(said: Conversation, version: str, topic: str) -> Result:
    allow = "let this user write and read there in the broker's access list, such as"
    rule = f"topic readwrite {topic}/#"
    if said.acks is None or said.acks.is_failure:
        found = f"the broker does not let this node hear {topic}/ack ({said.acks or 'no answer'})"
        return fails("topics", found, allow, rule)
    if said.trial is None or said.trial.is_failure:
        found = f"the broker does not take what this node publishes below {topic} ({said.trial or 'no answer'})"
        return fails("topics", found, allow, rule)
    if version != "5":
        return ok("topics", f"MQTT {version} does not tell whether what is published below {topic} is allowed")
    return ok("topics", f"may publish below {topic}")


def probe(settings: LinkSettings, topic: str, now_s: float) -> list[Result]:
    """Try the broker step by step, up to the first that fails; `now_s` is the time of the system clock."""
    try:
        tls = tls_context(settings)
    except InputError as error:
        return [of_error("TLS", error, "correct [mqtt]")]
    try:
        connection = socket.create_connection((settings.host, settings.port), timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        return [judge_unreachable(settings.host, settings.port, error)]
    with connection:
        results = [ok("network", f"{settings.host}, port {settings.port}, is reached")]
        if tls is not None:
            results.append(_handshake(connection, tls, settings, now_s))
    if results[-1].verdict == "fails":
        return results
    return results + judge_conversation(converse(settings, tls, topic), settings.user, topic)


def converse(settings: LinkSettings, tls: ssl.SSLContext | None, topic: str) -> Conversation:
    """Log in, ask for the acks and publish a trial, in the newest MQTT that the broker speaks.

    The trial is an empty message at `topic`/check, which nobody subscribes to.
    """
    said = _converse(settings, tls, topic, MQTTProtocolVersion.MQTTv5)
    if said.login is None or str(said.login) == "Unsupported protocol version":
        older = _converse(settings, tls, topic, MQTTProtocolVersion.MQTTv311)
        return said if older.login is None else older
    return said


def _converse(
    settings: LinkSettings, tls: ssl.SSLContext | None, topic: str, version: MQTTProtocolVersion
) -> Conversation:
    said = Conversation(version)
    # An id of the broker's choice: with the node's own, the node that runs meanwhile would be thrown off.
    client = Client(CallbackAPIVersion.VERSION2, client_id="", protocol=version, reconnect_on_failure=False)
    client.connect_timeout = CONNECT_TIMEOUT_S
    if tls is not None:
        client.tls_set_context(tls)
    if settings.user is not None:
        client.username_pw_set(settings.user, settings.password)

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        said.login = reason
        if not reason.is_failure:
            client.subscribe(f"{topic}/ack", qos=1)
            client.publish(f"{topic}/check", b"", qos=1)

    def on_subscribe(_client: Any, _data: Any, _mid: int, reasons: Sequence[ReasonCode], _properties: Any) -> None:
        said.acks = reasons[0]

    def on_publish(_client: Any, _data: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
        said.trial = reason

    client.on_connect, client.on_subscribe, client.on_publish = on_connect, on_subscribe, on_publish
    try:
        client.connect(settings.host, settings.port)
        _listen(client, said)
    except OSError as error:
        said.trouble = _reason(error)
    except Exception as error:  # noqa: BLE001 - paho raises anything on what is no MQTT
        said.trouble = f"it speaks no MQTT that we understand, {type(error).__name__}"
    finally:
        client.disconnect()
    return said


def _listen(client: Client, said: Conversation) -> None:
    """Read until all is answered, the broker hangs up, or it takes too long."""
    end_s = time.monotonic() + ANSWER_S
    while time.monotonic() < end_s and (said.acks is None or said.trial is None):
        if client.loop(POLL_S) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            said.trouble = "it hung up"
            return


def _handshake(connection: socket.socket, tls: ssl.SSLContext, settings: LinkSettings, now_s: float) -> Result:
    try:
        with tls.wrap_socket(connection, server_hostname=settings.host) as secure:
            certificate = secure.getpeercert() or {}
            ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
            return judge_certificate(secure.version() or "TLS", (ends_s - now_s) / SECONDS_PER_DAY)
    except OSError as error:
        return judge_handshake(settings.host, settings.port, error)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error) or type(error).__name__


def _show(host: str, port: int) -> str:
    return f"openssl s_client -connect {host}:{port} </dev/null | openssl x509 -noout -text"
