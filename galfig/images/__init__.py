"""Images: files become pixels, whatever a decoder makes of damaged bytes."""
