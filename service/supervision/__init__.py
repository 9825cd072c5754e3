"""Several gateway processes on one machine: started together, brought back when they die, replaced one by one."""
