"""Token codecs: summary tokens to bytes and back."""
