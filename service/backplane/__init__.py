"""What joins the nodes of a deployment: memory for one process alone, Redis for several."""
