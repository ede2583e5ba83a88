"""Pictures show the registered resources that filter or link, and follow each change."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from docs.diagrams import __main__ as command
from docs.diagrams.consortium import picture_of_consortium
from docs.diagrams.member import picture_of_member
from docs.diagrams.mermaid import mermaid
from docs.diagrams.picture import Arrow, Box, Direction, Group, Kind, Line, Picture, boxes
from docs.diagrams.planned import tenants
from docs.diagrams.stack import Stack, short, stack_of
from docs.diagrams.svg import NoGraphvizError, is_drawn_from, svg
from lab.azure.consortium import SAMPLE_CONSORTIUM
from lab.azure.program import Run
from tests.runs import all_of, bank, bare, deployed, echo, large, sample

BANKS = ("bank-a", "bank-b", "bank-c")
RUNS = [large, bare, echo, lambda: sample("dev"), lambda: bank("bank-c")]
NAMES = ["large", "bare", "echo", "dev", "bank-c"]

wants_graphviz = pytest.mark.skipif(not shutil.which("dot"), reason="wants Graphviz's dot")


def stack(run: Run) -> Stack:
    return stack_of(deployed(run).every, run.outputs)


def member(run: Run) -> Picture:
    return picture_of_member(stack(run))


def consortium(*runs: Run) -> Picture:
    return picture_of_consortium([stack(each) for each in runs], tenants(SAMPLE_CONSORTIUM))


def kinds(picture: Picture) -> set[Kind]:
    return {box.kind for box in boxes(picture.parts)}


def groups(parts: tuple[Box | Group, ...]) -> Iterator[Group]:
    for part in parts:
        if isinstance(part, Group):
            yield part
            yield from groups(part.parts)


def links(picture: Picture) -> list[Arrow]:
    return [each for each in picture.arrows if each.line is Line.LINK]


def readme_picture(name: str) -> Picture:
    """As `planned_picture` draws it, from runs that other tests share; tests/processes compares the two."""
    return member(sample("prod")) if name == "member" else consortium(*map(bank, BANKS))


# The documents' pictures


@pytest.mark.parametrize("name", command.PICTURES)
def test_readmes_pictures_show_what_is_registered(name: str):
    stale = command.stale_files(name, readme_picture(name))
    assert not stale, f"{[path.name for path in stale]} are stale; `make diagram` draws them"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("ZoneRedundant", "standby in another zone"),
        ("SameZone", "standby in the same zone"),
        ("Disabled", "no standby"),
    ],
)
def test_a_database_shows_the_place_of_its_standby(mode: str, said: str):
    run = sample("dev")
    every = [
        replace(each, inputs={**each.inputs, "highAvailability": {"mode": mode}})
        if each.type.endswith(":Server")
        else each
        for each in deployed(run).every
    ]
    picture = picture_of_member(stack_of(tuple(every), run.outputs))
    (database,) = (box for box in boxes(picture.parts) if box.kind is Kind.DATABASE)
    assert said in database.details


def test_a_changed_picture_makes_both_of_its_files_stale():
    picture = readme_picture("consortium")
    changed = replace(picture, arrows=picture.arrows[1:])
    assert [path.suffix for path in command.stale_files("consortium", changed)] == [".mmd", ".svg"]


@pytest.mark.parametrize("name", command.PICTURES)
def test_readmes_svgs_are_complete_and_name_no_machine(name: str):
    text = (command.IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    references = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert references, "the icons"
    assert all(each.startswith(("#", "data:image/png;base64,")) for each in references), (
        "nothing is loaded from elsewhere"
    )
    assert {each[1:] for each in references if each.startswith("#")} <= set(re.findall(r'<image id="([^"]+)"', text))
    assert not re.search(r"site-packages|\.png|file:|/home|/opt|/tmp|/usr|/work", text), (
        "no path of the machine that drew it"
    )


# A member


@pytest.mark.parametrize("make", RUNS, ids=NAMES)
def test_each_flow_that_the_rules_allow_is_drawn_and_no_other(make):
    run = make()
    allowed = {
        re.sub("(In|Out)$", "", rule["name"])
        for group in all_of(run, "NetworkSecurityGroup")
        for rule in group.inputs["securityRules"]
        if rule["access"] == "Allow"
    }
    picture = member(run)
    between = {flow for arrow in picture.arrows for flow in arrow.flows}
    inside = {flow for group in groups(picture.parts) for flow in group.flows}
    assert between | inside == allowed, "the picture is about allowed connections"


@pytest.mark.parametrize("make", RUNS, ids=NAMES)
def test_each_arrow_joins_two_boxes_and_each_box_is_unique(make):
    picture = member(make())
    keys = [box.key for box in boxes(picture.parts)] + [group.key for group in groups(picture.parts)]
    assert len(keys) == len(set(keys)), "two objects with one key would be drawn as one"
    ends = {end for arrow in picture.arrows for end in (arrow.source, arrow.target)}
    assert ends <= {box.key for box in boxes(picture.parts)}
    alone = {box.title for box in boxes(picture.parts) if box.key not in ends}
    assert alone <= {"VPN gateway"}, "every box needs an arrow, except a gateway without peers"


def test_each_subnet_shows_its_registered_resources():
    run = large()
    found = {group.title.split()[0]: [box.kind for box in boxes(group.parts)] for group in groups(member(run).parts)}
    assert {each.inputs["subnetName"] for each in all_of(run, "Subnet")} <= found.keys()
    assert found["GatewaySubnet"] == [Kind.CIRCUIT, Kind.GATEWAY]
    assert found["nodes"] == found["authority"] == [Kind.BALANCER, Kind.VMS]
    assert found["database"] == [Kind.DATABASE]
    assert found["endpoints"] == [Kind.ENDPOINTS]


def test_each_private_endpoint_leads_to_a_vault_or_an_account():
    run = large()
    led_to = [arrow.target for arrow in member(run).arrows if arrow.source == "endpoints"]
    assert len(led_to) == len(set(led_to)) == len(all_of(run, "network:PrivateEndpoint"))
    drawn = {box.key for box in boxes(member(run).parts) if box.kind in (Kind.VAULT, Kind.BLOBS, Kind.FILES)}
    assert set(led_to) == drawn, "each vault and each storage account is reached by its endpoint alone"


def test_a_member_without_peers_has_no_link():
    alone, linked = member(bank("bank-a", linked=False)), member(bank("bank-a"))
    assert Kind.MEMBERS in kinds(linked)
    assert [each.label for each in links(linked)] == [("IPsec: bank-c", "VNet-to-VNet: bank-b", "IKEv2, GCMAES256")]
    assert Kind.MEMBERS not in kinds(alone)
    assert not links(alone)


def test_a_member_without_an_authority_is_linked_to_its_peers_authority():
    own, others = mermaid(member(bank("bank-a"))), mermaid(member(bank("bank-b")))
    assert "subgraph subnet_authority" in own
    assert "subgraph subnet_authority" not in others
    to_peers = "network info 8443<br/>enrolment, revocation 8444-8445<br/>P2P 10000-10099"
    assert f'nodes_vms -->|"{to_peers}"| network_vpn_gateway' in others


def test_monitoring_is_drawn_if_it_is_enabled():
    on, off = member(bank("bank-a")), member(bank("bank-b"))
    assert Kind.MONITORING in kinds(on), "a medium member has it"
    assert Kind.MONITORING not in kinds(off), "a small one has none"


def test_resources_that_a_small_member_lacks_are_not_drawn():
    drawn = kinds(member(bare()))
    assert Kind.CIRCUIT in drawn
    assert not drawn & {Kind.GATEWAY, Kind.DATABASE, Kind.AZURE, Kind.MONITORING, Kind.APPLICATIONS}


def test_peers_are_drawn_at_the_gateway_of_their_link():
    entered = {
        make: {arrow.source for arrow in member(make()).arrows if "PeersToNodes" in arrow.flows}
        for make in (large, bare)
    }
    assert entered[large] == {"network_vpn_gateway"}, (
        "it has both gateways, and its links are connections of this one"
    )
    assert entered[bare] == {"network_express_route_gateway"}, "no connection exists for the peer"


def test_many_peers_stay_readable():
    assert short(["a", "b", "c"]) == ("a", "b", "c")
    assert short(["a", "b", "c", "d"]) == ("a", "b", "and 2 more")


# A consortium


def test_a_further_bank_is_drawn_with_its_links():
    two, three = consortium(bank("bank-a"), bank("bank-b")), consortium(*map(bank, BANKS))
    assert len(links(two)) == 1
    assert len(links(three)) == 3
    assert [group.title for group in two.parts] == ["Entra tenant north"]
    assert [group.title for group in three.parts] == ["Entra tenant north", "Entra tenant south"]
    assert all(each.both_ways for each in links(three))
    assert {each.label for each in links(three)} == {
        ("VNet-to-VNet", "1 connection a side"),
        ("IPsec", "2 connections a side"),
    }


def test_the_authority_lists_the_members_that_it_certifies():
    def details(picture: Picture, kind: Kind) -> list[tuple[str, ...]]:
        return [box.details for box in boxes(picture.parts) if box.kind is kind]

    whole, without = consortium(*map(bank, BANKS)), consortium(bank("bank-b"), bank("bank-c"))
    assert details(whole, Kind.AUTHORITY) == [("certifies bank-a, bank-b, bank-c",)]
    assert details(whole, Kind.NOTARY) == [("OU=node-1",)]
    assert not details(without, Kind.AUTHORITY)
    assert not details(without, Kind.NOTARY)


def test_an_incomplete_link_is_drawn_as_incomplete():
    (link,) = links(consortium(bank("bank-a"), bank("bank-b", linked=False)))
    assert link.label[-1] == "only bank-a's half"
    assert not link.both_ways
    assert not links(consortium(bank("bank-a", linked=False), bank("bank-b", linked=False)))


def test_a_link_over_circuits_has_no_connection():
    (link,) = links(consortium(bare(), bank("bank-b", linked=False)))
    assert link.label[0] == "ExpressRoute"


# Formats


def test_mermaid_has_each_box_group_and_arrow():
    picture = member(large())
    lines = mermaid(picture).splitlines()
    for key in [box.key for box in boxes(picture.parts)]:
        assert sum(bool(re.match(rf"\s*{key}[\[(]", line)) for line in lines) == 1
    assert sum("subgraph" in line for line in lines) == sum(1 for _ in groups(picture.parts))
    assert sum(bool(re.search(r"-->|==>|-\.->", line)) for line in lines) == len(picture.arrows)


def test_names_are_escaped_in_mermaid():
    box = Box("a", Kind.VMS, 'x"]; <b>#quot;`')
    text = mermaid(Picture("t", Direction.DOWN, (box,), ()))
    assert text.splitlines()[-1] == '  a["x#34;]#59; #60;b#62;#35;quot#59;#96;"]'


@wants_graphviz
def test_an_svg_is_reproducible_and_names_are_escaped_in_it():
    box = Box("a", Kind.VMS, "<b>&amp;", ('"quoted"',))
    picture = Picture("t", Direction.DOWN, (box,), ())
    text = svg(picture)
    assert text == svg(picture)
    assert "&lt;b&gt;&amp;amp;" in text
    assert is_drawn_from(text, picture)
    assert not is_drawn_from(text, replace(picture, parts=()))


def test_without_graphviz_an_svg_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoGraphvizError, match=r"no dot on PATH; wanted Graphviz .*, or FORMAT=mermaid"):
        svg(Picture("t", Direction.DOWN, (), ()))
    picture = readme_picture("consortium")
    assert is_drawn_from((command.IMAGES / "consortium.svg").read_text(encoding="utf-8"), picture), (
        "Mermaid needs no Graphviz"
    )


# The command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "error: no configuration of stack nope; wanted Pulumi.nope.yaml\n"),
        (["nope.yaml"], "error: nope.yaml: no such file; wanted a stack's, such as Pulumi.dev.yaml\n"),
        (["dev", "--format", "pdf"], "error: format pdf; wanted mermaid or svg\n"),
        (["dev", "prod"], "error: dev, prod: 2 of them; wanted one, or a folder\n"),
        (["--out", "x.svg"], "error: nothing to draw; wanted STACK, its file or a consortium's folder\n"),
        (["docs"], "error: docs: no consortium.yaml that lists banks; wanted one, or a stack\n"),
    ],
)
def test_bad_input_gets_one_message(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert command.main(arguments) == 1
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("text", ["banks: [bank-a]\n", "banks: {bank-a: 1}\n", "other: {}\n"])
def test_an_invalid_list_of_banks_gets_one_message(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "consortium.yaml").write_text(text, encoding="utf-8")
    assert command.main([str(tmp_path)]) == 1
    assert re.fullmatch(r"error: .*: banks is .*; wanted the organisation of each bank .*\n", capsys.readouterr().err)


def test_a_picture_is_printed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    picture = member(sample("dev"))
    monkeypatch.setattr(command, "planned_picture", lambda what: {"dev": picture}[what])
    assert command.main(["dev"]) == 0
    assert capsys.readouterr() == (mermaid(picture), "")
    assert command.main(["dev", "--out", str(tmp_path / "dev.mmd")]) == 0
    assert (tmp_path / "dev.mmd").read_text(encoding="utf-8") == mermaid(picture)
    assert command.main(["dev", "--out", str(tmp_path / "none" / "dev.mmd")]) == 1
    assert re.fullmatch(r"error: .*dev\.mmd: can't be written: .*; wanted a file that can\n", capsys.readouterr().err)


def test_stale_pictures_are_written_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "IMAGES", tmp_path)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "planned_picture", lambda _: readme_picture("consortium"))
    monkeypatch.setattr(command, "svg", lambda _: "drawn")
    monkeypatch.setattr(command, "is_drawn_from", lambda document, _: document == "drawn")
    assert command.main([]) == 0
    written = ["member.mmd", "member.svg", "consortium.mmd", "consortium.svg"]
    assert capsys.readouterr().out == "".join(f"{name}: written\n" for name in written)
    assert command.main([]) == 0
    assert capsys.readouterr().out == "all up to date\n", (
        "current pictures are left unchanged, and the output says so"
    )
