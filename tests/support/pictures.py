"""The beginnings of media files: as much as tells what they are."""

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
JPEG = b"\xff\xd8\xff\xe0" + b"another picture"
MP4 = b"\x00\x00\x00\x18ftypisom" + b"a film"
WAV = b"RIFF\x00\x00\x00\x00WAVE" + b"a sound"
