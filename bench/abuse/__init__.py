"""What attackers do to a service, while another client goes on as ever: `make abuse`."""
