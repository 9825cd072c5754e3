"""`make capacity`: what each way of deploying holds on this machine, side by side in one report."""
