"""What a client asks, by subject: the classes that a Client consists of."""
