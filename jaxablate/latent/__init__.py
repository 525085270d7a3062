"""Small trainable parts beside a frozen decoder."""
