"""Attribution: Grad-CAM maps of a network, exact and fast; depends on torch only."""
