"""One run on several hosts: a launcher on each, all ended with the first that fails.

    hostfile     who they are and how many ranks each has
    starts       what is started on a host: DeepSpeed's launcher or torchrun, and over both weave-train
    agent        runs there: takes the order from its standard input, ends everything with it
    fan_out      runs here: reaches all hosts, gives the orders, passes the exit code on

`deepspeed --hostfile` itself would do, by pdsh. Its end is what is not good enough: on Ctrl-C it calls
`pkill -f` with a pattern that hits every DeepSpeed job of this user on those hosts, variables travel on the
command line, where every user of a host reads them, and a launcher that was killed counts as success.
"""
