"""The layout of a member's address space: fixed offsets, no overlap."""

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.addresses import AddressPlan, carve, is_private

PRIVATE = [IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


@st.composite
def spaces(draw: st.DrawFn) -> IPv4Network:
    """Any address space that a member may have."""
    block = draw(st.sampled_from(PRIVATE))
    prefix = draw(st.integers(16, 22))
    address = draw(st.integers(int(block.network_address), int(block.broadcast_address)))
    return IPv4Network((address, prefix), strict=False)


any_space = given(space=spaces())


def subnets(plan: AddressPlan) -> list[IPv4Network]:
    return [plan.nodes, plan.endpoints, plan.database, plan.authority, plan.gateway]


@pytest.mark.parametrize(
    ("space", "layout", "frontend", "authority"),
    [
        (
            "10.20.0.0/16",
            ["10.20.0.0/24", "10.20.1.0/26", "10.20.1.64/27", "10.20.1.96/27", "10.20.1.224/27"],
            "10.20.0.254",
            "10.20.1.126",
        ),
        (
            "192.168.4.0/22",
            ["192.168.4.0/24", "192.168.5.0/26", "192.168.5.64/27", "192.168.5.96/27", "192.168.5.224/27"],
            "192.168.4.254",
            "192.168.5.126",
        ),
    ],
)
def test_an_address_space_is_always_cut_in_the_same_way(
    space: str, layout: list[str], frontend: str, authority: str
) -> None:
    plan = carve(IPv4Network(space))
    assert [str(subnet) for subnet in subnets(plan)] == layout, (
        "Azure replaces a subnet whose range changes, with everything in it"
    )
    assert plan.frontend == IPv4Address(frontend), "the membership card states this address"
    assert plan.authority_frontend == IPv4Address(authority), "an authority's card states this address"


@any_space
def test_subnets_lie_inside_the_address_space_and_do_not_overlap(space: IPv4Network) -> None:
    plan = carve(space)
    assert plan.space == space, "the subnets are planned for the whole space"
    assert all(subnet.subnet_of(space) for subnet in subnets(plan)), "Azure refuses a subnet outside of its network"
    assert not any(one.overlaps(other) for one, other in combinations(subnets(plan), 2)), "no two subnets overlap"


@any_space
def test_subnets_are_as_large_as_azure_requires(space: IPv4Network) -> None:
    plan = carve(space)
    assert plan.gateway.prefixlen <= 27, "a gateway that coexists with ExpressRoute requires /27 or larger"
    assert plan.database.prefixlen <= 28, "a delegated subnet of PostgreSQL requires /28 or larger"
    assert plan.authority.num_addresses - 5 > 2 * 2, "two VMs, their surge and the frontend"
    assert plan.nodes.num_addresses - 5 > 2 * 15, "15 VMs and their surge must fit beside Azure's own five addresses"
    assert sum(subnet.num_addresses for subnet in subnets(plan)) * 2 < space.num_addresses, (
        "half of the space stays free for later subnets"
    )


@any_space
def test_frontend_is_the_last_usable_address(space: IPv4Network) -> None:
    plan = carve(space)
    assert plan.frontend == list(plan.nodes.hosts())[-1], (
        "Azure assigns addresses from below, so the last one is free"
    )
    assert plan.authority_frontend == list(plan.authority.hosts())[-1], "the same holds in the authority's subnet"


@any_space
def test_a_larger_address_space_moves_no_subnet(space: IPv4Network) -> None:
    smallest = carve(IPv4Network((space.network_address, 22)))
    assert subnets(carve(space)) == subnets(smallest), "a member that extends its address space keeps its subnets"


@pytest.mark.parametrize(
    "space", ["20.0.0.0/16", "172.32.0.0/16", "172.15.0.0/16", "192.169.0.0/22", "100.64.0.0/16"]
)
def test_public_space_is_refused(space: str) -> None:
    wanted = "wanted a part of 10.0.0.0/8 or 172.16.0.0/12 or 192.168.0.0/16"
    with pytest.raises(ValueError, match=f"^{space} is not private; {wanted}$"):
        carve(IPv4Network(space))


@pytest.mark.parametrize("space", ["10.0.0.0/8", "172.16.0.0/12", "10.2.0.0/15", "10.1.0.0/23", "10.1.2.3/32"])
def test_space_of_another_size_is_refused(space: str) -> None:
    prefix = space.partition("/")[2]
    with pytest.raises(ValueError, match=f"^{space} is a /{prefix}; wanted /16 to /22$"):
        carve(IPv4Network(space))


@pytest.mark.parametrize(
    ("network", "private"),
    [
        *((str(block), True) for block in PRIVATE),
        ("10.255.255.255/32", True),
        ("172.31.255.0/24", True),
        ("10.0.0.0/7", False),
        ("172.0.0.0/11", False),
        ("192.168.0.0/15", False),
        ("169.254.0.0/16", False),
        ("127.0.0.0/8", False),
        ("0.0.0.0/0", False),
    ],
)
def test_private_means_rfc_1918_as_a_whole(network: str, private: bool) -> None:
    assert is_private(IPv4Network(network)) is private, "a network that is private in part would route public traffic"
