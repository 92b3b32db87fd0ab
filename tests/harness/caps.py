"""XEP-0115 entity capabilities of hand-driven clients, honest or not."""

import base64
import hashlib
from collections.abc import Iterable

from harness import ns

NODE = "urn:example:client"
MIX = (ns.DISCO_INFO, ns.CORE1)
OLD_MIX = (ns.DISCO_INFO, ns.CORE0)
PLAIN = (ns.DISCO_INFO,)


def version(features: Iterable[str], name: str = "test") -> str:
    """Return the verification string of a client with these features (XEP-0115 §5.1)."""
    text = f"client/pc//{name}<" + "".join(f"{feature}<" for feature in sorted(features))
    return base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()  # noqa: S324


def element(features: Iterable[str], name: str = "test", ver: str | None = None) -> str:
    """Return `<c/>` for presence; `ver` other than the right one is a lie."""
    ver = version(features, name) if ver is None else ver
    return f"<c xmlns='{ns.CAPS}' hash='sha-1' node='{NODE}' ver='{ver}'/>"


def info(features: Iterable[str], name: str = "test", node: str = "") -> str:
    """Return the disco#info `<query/>` of such a client."""
    attribute = f" node='{node}'" if node else ""
    return (
        f"<query xmlns='{ns.DISCO_INFO}'{attribute}>"
        f"<identity category='client' type='pc' name='{name}'/>"
        + "".join(f"<feature var='{feature}'/>" for feature in features)
        + "</query>"
    )
