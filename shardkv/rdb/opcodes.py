"""The bytes that stand where otherwise the kind of a value would, and say what else follows."""

from __future__ import annotations

from typing import Final

SLOT_IMPORT: Final = 243
"""Of Valkey 9: slots that were being imported."""
SLOT_INFO: Final = 244
"""How many keys a slot of a cluster has."""
FUNCTION: Final = 245
"""A library of functions, as its code."""
FUNCTION_PRE_GA: Final = 246
"""The same as release candidates of Redis 7.0 wrote it: name, engine and description apart."""
MODULE_AUX: Final = 247
"""What a module keeps beside the keys."""
IDLE: Final = 248
"""For how long the next key was not used, in seconds."""
FREQUENCY: Final = 249
"""How often the next key was used, on a scale of its own, in one byte."""
AUX: Final = 250
"""A fact about the file, as name and value."""
RESIZE: Final = 251
"""How many keys the database has, and how many of them expire."""
EXPIRE_MS: Final = 252
"""When the next key expires, in ms since 1970, in eight bytes."""
EXPIRE_S: Final = 253
"""The same in seconds, in four bytes, as it was written before Redis 2.6."""
SELECT: Final = 254
"""To which database the following keys belong."""
END: Final = 255
"""Nothing follows but the checksum."""
