"""The XSF format: grammar, frames, reader and writer."""
