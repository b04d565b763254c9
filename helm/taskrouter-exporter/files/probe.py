"""Ask the exporter at a URL whether it is well: the probes' script where it has a web configuration.

An answer below 500 will do, "Unauthorized" among them. So will a TLS connection that is closed, since the
exporter refuses clients without a certificate in this way; one that hangs or is gone closes none. The second
argument, if any, is a directory with the files `username` and `password`.
"""

import base64
import http.client
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
headers = {}
if sys.argv[2:]:
    user, password = (Path(sys.argv[2], name).read_bytes() for name in ("username", "password"))
    headers["Authorization"] = f"Basic {base64.b64encode(user + b':' + password).decode()}"
connection = http.client.HTTPConnection(url.netloc, timeout=4)
if url.scheme == "https":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is for another name than localhost
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(url.netloc, timeout=4, context=context)
try:
    connection.request("GET", url.path, headers=headers)
    status = connection.getresponse().status
except (ssl.SSLError, ConnectionResetError):
    if url.scheme != "https":
        raise
    status = 0
if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
    sys.exit(f"{url.geturl()} answers {status}")
