"""One safetensors file: its name, header, facts and provenance; reading, writing, checking."""
