"""What the scenarios run on: brokers, workers, load, relays, network namespaces and small disks.

All of it lives below one temporary folder and ends with the scenario, however that ends: processes by their ids, mounts
and namespaces by their names, which hold this process's id.
"""
