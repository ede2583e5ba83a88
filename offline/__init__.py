"""The program without Azure."""
