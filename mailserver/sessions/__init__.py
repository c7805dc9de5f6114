"""What each protocol does with the store, the accounts, the policy and the delivery."""
