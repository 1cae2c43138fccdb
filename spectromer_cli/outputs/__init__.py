"""Results: tables in the formats astronomers use, and figures."""
