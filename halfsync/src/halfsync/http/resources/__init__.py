"""Resources of twisted.web as a handler: klein, the admin pages."""
