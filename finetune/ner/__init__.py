"""Named entity recognition in parts: windows, the chain of tags, confidences, errors."""
