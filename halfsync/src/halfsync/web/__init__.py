"""What a web service has beside its application: files, and streams of events."""
