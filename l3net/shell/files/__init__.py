"""Files of ours that outlive a process: leases, the drain, routes, the plugins, the run directory."""
