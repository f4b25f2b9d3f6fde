"""/v1/fine_tuning: OpenAI's fine-tuning jobs, which are jobs of the kind finetune-llm."""
