"""What a deployment keeps in Redis, and how its nodes write and read it."""
