"""Characters as identities, fonts as their pictures."""
