"""Moving whole data sets in and out: from files and servers into this one, and from it into files.

    connection    one connection to a server, by its URL
    sources       where data comes from: RDB files, data at hand, dumps of a server's keys
    redis_aof     append-only files of Redis
    full_sync     what a primary sends its replicas
    data_folder   a data folder of this server that no server runs on
    copying       the way of each key from a source to where it is put, and what comes of it

    into          puts keys into a new data folder
    target        puts keys into a running server
    files         puts keys into one RDB or append-only file

Nothing here runs in a server; the tools in proxy/tools do.
"""
