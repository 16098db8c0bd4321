"""What workers run: one part's frames and vectors, one shard. Picklable, everything they need inside.

frames    decode a part, then embed it: in the same task, or in an actor that holds a model
shards    gather a shard's frames and commit it

A room of its own, whose modules are imported by name: a worker that unpickles one of them loads neither
reports nor grouping nor whatever else a driver needs.
"""
