"""`asynctrace demo`: a small shop of three real services, and a proof that tracing works.

The services, each a process of its own, are examples of how one uses asynctrace::

    gateway     takes orders                 aiohttp, calls orders through httpx
    orders      places them, packs parcels   aiohttp, calls inventory through httpx, a queue
    inventory   reserves the goods           aiohttp
    service     what all three have in common: serve until told to stop

The rest runs them and judges what arrived::

    shop         the orders that are sent, and the trace that each has to make; data
    compare      expected and received trace trees -> what is missing or wrong; pure
    processes    a service's process: started, asked to stop, never left behind
    run          all of it in order, with a collector
    judge        what was seen -> problems; pure
    show, document     for people, for programs
    command      the options
"""
