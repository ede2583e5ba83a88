"""How programs and their configuration get onto a VM. It packs the programs' folders by path and imports none."""
