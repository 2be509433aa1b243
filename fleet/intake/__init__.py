"""How work comes in: issue text becomes a ticket, frozen and cleaned, once per issue and generation."""
