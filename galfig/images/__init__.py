"""Images: files decoded into pixels, or an error that says why not."""
