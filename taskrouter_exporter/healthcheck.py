"""The image's health check, `python -m taskrouter_exporter.healthcheck [PORT]`: is there an exporter?"""

import http.client
import ssl
import sys
from typing import Final

_PORT: Final = 10142
_SERVER_ERROR: Final = 500
_SECONDS: Final = 2


def answers(port: int) -> bool:
    """Ask `/-/healthy` on loopback, over HTTP or, where that is hung up on, over HTTPS.

    A refusal is an answer too: an exporter that asks for a password (401), patience (429) or a client
    certificate (it ends TLS) is alive.
    """
    try:
        try:
            return _is_well(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS))
        except ConnectionResetError:
            return _is_well_over_tls(port)
    except (OSError, http.client.HTTPException):
        return False


def _is_well_over_tls(port: int) -> bool:
    # Nothing is sent that a certificate could protect, and it is for another name than 127.0.0.1.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        return _is_well(http.client.HTTPSConnection("127.0.0.1", port, timeout=_SECONDS, context=unverified))
    except (ssl.SSLError, ConnectionResetError):
        return True


def _is_well(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status < _SERVER_ERROR
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not answers(int(sys.argv[1]) if sys.argv[1:] else _PORT))
