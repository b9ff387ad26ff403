"""The web console: uploads, gallery, dead letters and figures of a stack, on loopback."""
