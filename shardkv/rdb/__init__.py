"""Redis' binary format for values: what DUMP gives, what RESTORE takes, and what RDB files consist of.

    reader, writer    lengths and strings
    packed            small collections in one string: listpacks, ziplists, zipmaps, intsets
    streams           the pieces of a stream
    decode, encode    values of every type
    payload           a value by itself, with version and checksum
    skim              where a value ends, without making it
    opcodes           what stands in whole files besides values
    file_writer       whole files, of which each shard can make its part
    file_reader       whole files, from Redis 2.4 on

Bytes come in and values go out, or the other way round: nothing here does I/O, or knows keys and commands.
What the bytes claim is never believed: they are read as far as they go, and what does not fit is a
FormatError.

The format has no other description than what servers write and read
(https://rdb.fnordig.de/file_format.html covers the older half).
"""
