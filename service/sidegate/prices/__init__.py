"""Prices: what models cost, from the price lists of genai-prices, found without having that library in memory."""
