"""What the fleet tells about itself to other programs: a trace per ticket, and figures. Read from the ledger alone."""
