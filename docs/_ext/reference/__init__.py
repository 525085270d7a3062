"""Reference pages out of the code: each module reads one kind of thing and returns Markdown."""
