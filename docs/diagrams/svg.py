"""A picture as SVG, by Graphviz and with the icons of `diagrams`. The file is complete: it refers to no other.

The icons are Microsoft's, which permits their use in diagrams and documentation
(learn.microsoft.com/azure/architecture/icons).
"""

import re
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from pathlib import Path

import diagrams
from diagrams import Cluster, Diagram, Edge, Node, setdiagram
from diagrams.azure import (
    blockchain,
    compute,
    databases,
    general,
    monitor,
    network,
    networking,
    security,
    storage,
    web,
)

from docs.diagrams.picture import Arrow, Box, Direction, Group, Kind, Line, Picture, Scope, boxes

_ICONS: Mapping[Kind, type[Node]] = {
    Kind.MEMBERS: blockchain.Consortium,
    Kind.APPLICATIONS: web.StaticApps,
    Kind.INTERNET: web.AppServiceDomains,
    Kind.AZURE: general.AllResources,
    Kind.CIRCUIT: network.ExpressrouteCircuits,
    Kind.GATEWAY: networking.VirtualNetworkGateways,
    Kind.BALANCER: network.LoadBalancers,
    Kind.VMS: compute.VMScaleSet,
    Kind.ENDPOINTS: network.PrivateEndpoint,
    Kind.DATABASE: databases.AzureDatabasePostgresqlServer,
    Kind.VAULT: security.KeyVaults,
    Kind.BLOBS: storage.StorageAccounts,
    Kind.FILES: storage.AzureFileshares,
    Kind.NAT: networking.Nat,
    Kind.MONITORING: monitor.LogAnalyticsWorkspaces,
    Kind.NOTARY: security.SecurityCenter,
    Kind.AUTHORITY: web.AppServiceCertificates,
}
_PACKAGES = Path(diagrams.__file__).parent.parent
_FILLS = {Scope.TENANT: "#f7f7f7", Scope.MEMBER: "#f3f6fb", Scope.NETWORK: "#e3edf9", Scope.SUBNET: "#ffffff"}
_COLOURS = {Line.FLOW: "#0b5cad", Line.LINK: "#7a3e9d", Line.SERVES: "#707070"}
_STYLES: Mapping[Line, Mapping[str, str]] = {
    Line.FLOW: {},
    Line.LINK: {"penwidth": "2.5"},
    Line.SERVES: {"style": "dashed"},
}
_LEGEND = {
    Line.FLOW: "thin: connections that security rules allow, from who opens them, with TCP ports",
    Line.LINK: "thick: links between networks",
    Line.SERVES: "dashed: what is behind, and where logs go",
}
_FONT = {"fontname": "Helvetica,Arial,sans-serif"}
# `newrank` lets a group keep its boxes in one rank.
_GRAPH = {**_FONT, "fontsize": "10", "pad": "0.2", "nodesep": "0.25", "splines": "spline"}
_RANKSEP = {Direction.DOWN: "0.55", Direction.RIGHT: "1"}
_NODE = {**_FONT, "fontsize": "11", "shape": "plain", "fixedsize": "false", "width": "0", "height": "0"}
_GROUP = {**_FONT, "fontsize": "12", "fontcolor": "#1b1b1b", "pencolor": "#8fa3bf", "margin": "10"}
_EDGE = {**_FONT, "fontsize": "10", "arrowsize": "0.7"}
_PALE = "#5c5c5c"
_ICON_POINTS = 34
_IN_A_ROW = 3
"""Most boxes of a group in one row; the next ones are drawn below."""

_LABELLED = re.compile(r'<g id="(?:clust|edge)\d+".*?</g>\n', re.DOTALL)
_TEXT = re.compile(r"<text .*?</text>\n")
_IMAGE = re.compile(r'<image xlink:href="([^"]+)"([^>]*)( x="[^"]*" y="[^"]*")/>')
_DIGEST = re.compile(r"<!-- drawn from (sha256:[0-9a-f]{64}) -->")


class NoGraphvizError(Exception):
    """Graphviz, which lays out a picture, is not installed; the message says what was wanted."""


def svg(picture: Picture) -> str:
    """The picture as a document, the same bytes for the same picture, Graphviz and fonts.

    Raises:
        NoGraphvizError: there is no `dot` on PATH.
    """
    if not shutil.which("dot"):
        raise NoGraphvizError("no dot on PATH; wanted Graphviz (apt-get install graphviz), or FORMAT=mermaid")
    drawing = _drawing(picture)
    text = _with_icons(_labels_last(drawing.dot.pipe(format="svg", encoding="utf-8")))
    return text.replace("<svg ", f"<!-- drawn from {_digest(drawing)} -->\n<svg ", 1)


def is_drawn_from(document: str, picture: Picture) -> bool:
    """Whether an SVG document shows a picture; needs no Graphviz."""
    found = _DIGEST.search(document)
    return found is not None and found[1] == _digest(_drawing(picture))


def _digest(drawing: Diagram) -> str:
    source = drawing.dot.source.replace(str(_PACKAGES), "")
    return f"sha256:{sha256(source.encode()).hexdigest()}"


def _drawing(picture: Picture) -> Diagram:
    """Graphviz's input."""
    drawing = Diagram(
        picture.title,
        direction=picture.direction,
        graph_attr={
            **_GRAPH,
            "ranksep": _RANKSEP[picture.direction],
            "newrank": "true",
            "labeljust": "l",
            "label": _legend(picture),
        },
        node_attr=_NODE,
    )
    nodes: dict[str, Node] = {}
    setdiagram(drawing)
    try:
        _draw(picture.parts, nodes)
        for arrow, attributes in _edges(picture):
            nodes[arrow.source].connect(
                nodes[arrow.target], Edge(forward=True, reverse=arrow.both_ways, **attributes)
            )
    finally:
        setdiagram(None)
    return drawing


def _draw(parts: tuple[Box | Group, ...], nodes: dict[str, Node]) -> None:
    for part in parts:
        if isinstance(part, Box):
            nodes[part.key] = _ICONS[part.kind](_label(part), nodeid=part.key, image="", **_NODE)
            continue
        # A member without its network is drawn as its boxes, one below the other.
        together = part.scope is Scope.MEMBER and all(isinstance(each, Box) for each in part.parts)
        attributes = {**_GROUP, "bgcolor": _FILLS[part.scope], **({"rank": "same"} if together else {})}
        label = "".join(f"{line}\\l" for line in (part.title, *part.details))
        with Cluster(label, graph_attr=attributes):
            _draw(part.parts, nodes)


def _edges(picture: Picture) -> Iterator[tuple[Arrow, dict[str, str]]]:
    top = {box.key: part.key for part in picture.parts if isinstance(part, Group) for box in boxes(part.parts)}
    behind = Counter[str]()
    for arrow in picture.arrows:
        colour = _COLOURS[arrow.line]
        attributes = {**_EDGE, **_STYLES[arrow.line], "color": colour, "fontcolor": colour}
        attributes["label"] = "\n".join(arrow.label)
        if arrow.line is Line.SERVES:
            attributes["minlen"] = str(1 + behind[arrow.source] // _IN_A_ROW)
            behind[arrow.source] += 1
        if arrow.line is Line.LINK and top.get(arrow.source) == top.get(arrow.target):
            # Banks of one tenant stay beside each other.
            attributes["constraint"] = "false"
        yield arrow, attributes


def _label(box: Box) -> str:
    """The icon, and the text beside it, as Graphviz's HTML."""
    icon = _ICONS[box.kind]
    path = _PACKAGES / str(icon._icon_dir) / str(icon._icon)  # `diagrams` has no public API for it.
    details = "".join(
        f'<BR ALIGN="LEFT"/><FONT POINT-SIZE="10" COLOR="{_PALE}">{escape(each)}</FONT>' for each in box.details
    )
    return (
        '<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="2" CELLPADDING="1"><TR>'
        f'<TD FIXEDSIZE="TRUE" WIDTH="{_ICON_POINTS}" HEIGHT="{_ICON_POINTS}"><IMG SCALE="TRUE" SRC="{path}"/></TD>'
        f'<TD ALIGN="LEFT" BALIGN="LEFT"><B>{escape(box.title)}</B>{details}</TD>'
        "</TR></TABLE>>"
    )


def _legend(picture: Picture) -> str:
    lines = {arrow.line for arrow in picture.arrows}
    said = [
        f'<FONT COLOR="{_COLOURS[line]}">{_LEGEND[line]}</FONT><BR ALIGN="LEFT"/>' for line in Line if line in lines
    ]
    return f"<{''.join(said)}>" if len(said) > 1 else ""


def _labels_last(text: str) -> str:
    """Put the labels of groups and arrows on top of the arrows that cross them, with a halo."""
    labels = [label for part in _LABELLED.findall(text) for label in _TEXT.findall(part)]
    text = _LABELLED.sub(lambda part: _TEXT.sub("", part[0]), text)
    drawn, end, rest = text.rpartition("</g>\n</svg>")
    halo = 'paint-order="stroke" stroke="white" stroke-opacity="0.8" stroke-width="3"'
    return f"{drawn}<g {halo}>\n{''.join(labels)}</g>\n{end}{rest}"


def _with_icons(text: str) -> str:
    """Put each icon into the document, once, in place of the path to it."""
    icons: dict[str, str] = {}

    def use(image: re.Match[str]) -> str:
        path, size, place = Path(image[1]), image[2], image[3]
        data = b64encode(path.read_bytes()).decode()
        icons[path.stem] = f'<image id="{path.stem}" xlink:href="data:image/png;base64,{data}"{size}/>\n'
        return f'<use xlink:href="#{path.stem}"{place}/>'

    text = _IMAGE.sub(use, text)
    begin, graph, rest = text.partition('<g id="graph0"')
    return f"{begin}<defs>\n{''.join(icons.values())}</defs>\n{graph}{rest}"
