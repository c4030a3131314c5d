"""How each TFLite operator is quantized, and in which precision."""
