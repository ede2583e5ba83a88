"""The links between members on one machine: gateways that speak IKEv2 and BGP, made from the members' plans alone."""
