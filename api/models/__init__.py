"""What is deployed, as OpenAI's clients list it, and one model at a time as clients of TEI know it."""
