"""The assistant: serves one llm release."""
